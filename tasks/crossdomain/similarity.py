"""Near-duplicates: questions that say the same with other numbers or a few other words."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Neighbours:
    """Texts seen so far, compared by the cosine of their word unigrams and bigrams (present or not, numbers masked).

    The vectors are hashed, not fitted: how similar two texts are depends on nothing but the two.
    """

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._vectorizer = HashingVectorizer(ngram_range=(1, 2), binary=True, norm="l2", alternate_sign=False)
        self._seen: Any = None

    def nearest(self, text: str) -> float:
        """Cosine with the most similar text seen so far, 0 to 1; 0 before the first."""
        return 0.0 if self._seen is None else float((self._seen @ self._vector(text).T).max())

    def add(self, text: str) -> None:
        """Remember a text."""
        from scipy.sparse import vstack

        vector = self._vector(text)
        self._seen = vector if self._seen is None else vstack([self._seen, vector], format="csr")

    def _vector(self, text: str) -> Any:
        return self._vectorizer.transform([_NUMBER.sub(" number ", text.lower())])
