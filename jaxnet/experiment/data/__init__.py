"""From a file to scaled rows in parts."""
