"""A clipped step beside a plain one, and beside other packages' clipped steps: time, memory and the largest batch.

Every way of clipping runs in a process of its own, see `worker`, from the same parameters and examples, see `networks`.
`beside` runs them in turn; `agreement` asks beforehand that all give the same gradient.
"""
