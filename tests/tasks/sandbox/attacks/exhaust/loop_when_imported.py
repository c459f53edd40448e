"""Never finishes loading."""
# expect: timeout
while True:
    pass
