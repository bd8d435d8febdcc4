"""What makes the book: build, gates, roadmap, figures, Sphinx extensions.

It reads the library, the rules, the scaffold, solutions, records and benchmarks
as text and imports none of them.
"""
