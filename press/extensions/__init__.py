"""The book's own directives and what they do to a build of Sphinx."""
