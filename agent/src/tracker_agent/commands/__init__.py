"""The commands of the command line, one file each; table.py lists them, cli.py makes the parser of them."""
