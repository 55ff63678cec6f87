"""The networks that `--model` names: a file each, with its options, how it is built, and what it says of itself."""
