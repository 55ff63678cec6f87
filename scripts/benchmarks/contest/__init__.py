"""The same networks trained by several packages, each in a process of its own.

The modules that run there import of jaxnet nothing but what is measured: with the whole package would come JAX, and its
memory would be counted as that of those who need none.
"""
