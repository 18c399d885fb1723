"""Arrays in, arrays out: the algorithms of imagier. Nothing here knows of a table, a stage, a model or a file."""
