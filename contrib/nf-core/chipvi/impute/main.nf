process CHIPVI_IMPUTE {
    tag "$meta.id"
    label 'process_high'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine == 'singularity' && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/chipvi:0.1.0--pyhdfd78af_0':
        'biocontainers/chipvi:0.1.0--pyhdfd78af_0' }"

    input:
    tuple val(meta), path(model), path(counts)
    val genome

    output:
    tuple val(meta), path("*.h5ad"), emit: imputed
    tuple val(meta), path("tracks"), emit: tracks
    path "versions.yml"            , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    chipvi \\
        impute \\
        $args \\
        --data $counts \\
        --genome $genome \\
        --bigwig tracks \\
        --workers $task.cpus \\
        --out ${prefix}.imputed.h5ad \\
        $model

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.imputed.h5ad
    mkdir tracks

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """
}
