# SPDX-License-Identifier: Apache-2.0
"""spaCy's vocabulary: without a pickle within its pickle, in which sets have any order."""

from __future__ import annotations

import copyreg
import sys
from types import SimpleNamespace
from typing import Any

from .memory import Call

_GETTERS = 4  # the place of the pickled functions among the arguments of unpickle_vocab, spaCy 3


def _reduce(vocab: Any) -> Any:
    reduced: Any = copyreg.dispatch_table[type(vocab)](vocab)
    function, args, *rest = reduced
    pickled = Call(sys.modules["srsly"].pickle_dumps, vocab.lex_attr_getters)
    return function, (*args[:_GETTERS], pickled, *args[_GETTERS + 1 :]), *rest


VOCAB = SimpleNamespace(reduce=_reduce)
