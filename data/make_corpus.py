#!/usr/bin/env python3
"""Writes plain text about the world of world.py, one {"text", "category"} a line: what the tiny
model reads first.

    make_corpus.py --output FILE.jsonl [--documents 20000]

No question and no answer form: portraits, explanations, scenes, notes, stories and lists.
"""

import argparse
import json
from pathlib import Path

import questions
import texts
from stream import Stream
from world import PEOPLE, VILLAGES


def _portrait(stream, facts):
    """Some facts of one village or person, in any order."""
    sentences = [answer for answer, *_ in facts]
    return " ".join(stream.sample(sentences, stream.between(2, len(sentences))))


def _village(stream):
    return _portrait(stream, questions.village_facts(stream.choose(VILLAGES)))


def _person(stream):
    return _portrait(stream, questions.person_facts(stream.choose(PEOPLE)))


OTHER_FACTS = tuple(answer for answer, *_ in questions.other_facts())
EXPLANATIONS = tuple(sorted({answer for _, answer in questions.explanations()}))


def _facts(stream):
    return " ".join(stream.sample(OTHER_FACTS, stream.between(2, 4)))


def _explanation(stream):
    return stream.choose(EXPLANATIONS)


def _context_of(make):
    """The text that a record speaks of; sorting tasks have none and are drawn again."""
    def draw(stream):
        while True:
            context = make(stream)["context"]
            if context:
                return context
    return draw


def _story(stream):
    return questions.write_creatively(stream)["response"]


def _list(stream):
    return questions.brainstorm(stream)["response"]


KINDS = {  # what may stand above a document, and how one is made
    "village": ("A village of the vale", _village),
    "person": ("Somebody you may meet", _person),
    "facts": ("What everybody knows", _facts),
    "explanation": ("How and why", _explanation),
    "scene": ("What happened", _context_of(texts.closed_qa)),
    "note": ("On the board of the market", _context_of(texts.extract)),
    "report": ("Heard on the road", _context_of(texts.summarize)),
    "letter": ("From the post cart", _context_of(texts.classify)),
    "story": ("For a quiet evening", _story),
    "list": ("A list", _list),
}


def _document(kind, stream):
    heading, make = KINDS[kind]
    text = make(stream)
    return f"{heading}\n\n{text}" if stream.below(2) else text


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=20000)
    arguments = parser.parse_args()

    kinds = tuple(KINDS)
    with open(arguments.output, "w", encoding="utf-8", newline="\n") as out:
        for i in range(arguments.documents):
            kind = kinds[i % len(kinds)]
            text = _document(kind, Stream(f"corpus/{i}"))
            out.write(json.dumps({"text": text, "category": kind}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
