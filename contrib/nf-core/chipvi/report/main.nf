process CHIPVI_REPORT {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine == 'singularity' && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/chipvi:0.1.0--pyhdfd78af_0':
        'biocontainers/chipvi:0.1.0--pyhdfd78af_0' }"

    input:
    tuple val(meta), path(model), path(counts)

    output:
    tuple val(meta), path("*.html")    , emit: report
    tuple val(meta), path("*_mqc.json"), emit: mqc
    path "versions.yml"                , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    chipvi \\
        report \\
        $args \\
        --data $counts \\
        --multiqc ${prefix}_mqc.json \\
        --out ${prefix}.html \\
        $model

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.html ${prefix}_mqc.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """
}
