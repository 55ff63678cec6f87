"""What the scripts are made of. Nothing in the core needs it: `import jaxnet.experiment` loads it."""
