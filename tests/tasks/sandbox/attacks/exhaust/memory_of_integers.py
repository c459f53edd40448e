"""Doubles the digits of a number until there is no room."""
# expect: memory timeout


def add(a, b):
    number = 10**1000
    while True:
        number = number << number.bit_length()
