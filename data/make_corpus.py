#!/usr/bin/env python3
"""Writes plain text about the world of world.py, one {"text", "category"} a line: what the tiny model reads first.

    make_corpus.py --output FILE.jsonl [--documents 20000]

No question and no answer form: portraits, explanations, scenes, notes, stories and lists.
"""

import argparse
import json
from pathlib import Path

import questions
import texts
from stream import Stream
from world import PEOPLE, SEASONS, VILLAGES


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
    heading = stream.choose((f"A list from {stream.choose(VILLAGES).name}",
                             f"What {stream.choose(PEOPLE).name} wrote down",
                             f"For a day in {stream.choose(SEASONS).name}"))
    return f"{heading}:\n{questions.brainstorm(stream)['response']}"


KINDS = {
    "village": _village,
    "person": _person,
    "facts": _facts,
    "explanation": _explanation,
    "scene": _context_of(texts.closed_qa),
    "note": _context_of(texts.extract),
    "report": _context_of(texts.summarize),
    "letter": _context_of(texts.classify),
    "story": _story,
    "list": _list,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=20000)
    arguments = parser.parse_args()

    kinds = tuple(KINDS)
    with open(arguments.output, "w", encoding="utf-8", newline="\n") as out:
        for i in range(arguments.documents):
            kind = kinds[i % len(kinds)]
            text = KINDS[kind](Stream(f"corpus/{i}"))
            out.write(json.dumps({"text": text, "category": kind}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
