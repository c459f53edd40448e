"""Imports what lies in the library's folder and is no module of the standard library."""
def attack():
    try:
        import pip
    except ImportError:
        import setuptools as pip
    return pip.__name__
