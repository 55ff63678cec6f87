"""What the site of the documentation is made of, besides mkdocs: see mkdocs.yml and scripts/_site.py."""
