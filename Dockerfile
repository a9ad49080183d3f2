# The command chipvi on the CPU, for the files of the folder /data:
#   docker build --build-arg VERSION=0.1.0 -t chipvi .
#   docker run --rm -v "$PWD:/data" chipvi chipvi --version
# Without an entry point, so that workflow engines can start what they like in it.
FROM python:3.12-slim AS build
ARG VERSION=0.1.0.dev0
ENV SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim
# ps, by which workflow engines measure tasks
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps \
    && rm -rf /var/lib/apt/lists/*
# torch first, alone, for the CPU: without NVIDIA's libraries the image has a quarter of the size
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -rf /wheels && chipvi --version
# numba and matplotlib write caches, whoever runs them
ENV MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /data
CMD ["chipvi", "--help"]
