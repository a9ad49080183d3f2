process CHIPVI_TRAIN {
    tag "$meta.id"
    label 'process_high'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine == 'singularity' && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/chipvi:0.1.0--pyhdfd78af_0':
        'biocontainers/chipvi:0.1.0--pyhdfd78af_0' }"

    input:
    tuple val(meta), path(counts)

    output:
    tuple val(meta), path("${prefix}"), emit: model
    path "versions.yml"               , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    chipvi \\
        train \\
        $args \\
        --out ${prefix} \\
        $counts

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir ${prefix}
    touch ${prefix}/model.json ${prefix}/model.safetensors

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """
}
