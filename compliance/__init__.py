"""Does what you release keep to what you owe? Rules that answer by looking.

`python -m compliance` looks at corpora, runs, files and the server of a
repository. Each rule is a small function with a duty and its source. None of
this is legal advice: it is what a program can see.
"""
