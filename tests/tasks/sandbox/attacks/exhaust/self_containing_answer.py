"""Answers with a list that holds itself."""
# expect: failed


def add(a, b):
    answer = []
    answer.append(answer)
    return answer
