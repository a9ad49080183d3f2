process CHIPVI_COUNT {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine == 'singularity' && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/chipvi:0.1.0--pyhdfd78af_0':
        'biocontainers/chipvi:0.1.0--pyhdfd78af_0' }"

    input:
    tuple val(meta), path(sheet), path(files)
    val genome
    val bin_size

    output:
    tuple val(meta), path("*.h5ad"), emit: counts
    path "versions.yml"            , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    chipvi \\
        count \\
        $args \\
        --genome $genome \\
        --bin $bin_size \\
        --workers $task.cpus \\
        --out ${prefix}.h5ad \\
        $sheet

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.h5ad

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        chipvi: \$(chipvi --version | sed "s/chipvi //")
    END_VERSIONS
    """
}
