"""How many edits the tests of this folder state, by kind: those that make another call, and those that do not."""

from __future__ import annotations

from tests.promises.never_stale import (
    test_changes_of_reads,
    test_edits_of_calls,
    test_edits_of_code,
    test_edits_of_modes,
    test_edits_of_modules,
    test_edits_of_reads,
    test_edits_of_tensors,
    test_edits_of_values,
    test_edits_without_effect,
    test_equal_values,
)

ANOTHER = {
    test_edits_of_code: ("CODE",),
    test_edits_of_reads: ("REACHED", "ELSEWHERE"),
    test_changes_of_reads: ("CHANGED",),
    test_edits_of_values: ("VALUES", "IN_PLACE"),
    test_edits_of_calls: ("FILES", "CALLS"),
    test_edits_of_tensors: ("BITS", "KINDS", "ASPECTS", "IN_PLACE"),
    test_edits_of_modules: ("WEIGHTS", "REST", "OPTIMIZED", "SCHEDULED"),
    test_edits_of_modes: ("MODES", "WITHIN"),
}
THE_SAME = {
    test_edits_without_effect: ("TEXTS", "NAMES", "CHANGES"),
    test_equal_values: ("EQUAL", "IN_PLACE", "CALLS", "OUTSIDE"),
}


def counted(tables):
    return {
        f"{module.__name__}.{name}": len(getattr(module, name)) for module, names in tables.items() for name in names
    }


def test_at_least_two_hundred_edits_make_another_call():
    assert sum(counted(ANOTHER).values()) >= 200, counted(ANOTHER)


def test_at_least_sixty_edits_leave_the_call_as_it_is():
    assert sum(counted(THE_SAME).values()) >= 60, counted(THE_SAME)


def test_each_edit_of_a_text_is_another_edit():
    for table in (test_edits_of_code.CODE, test_edits_of_reads.REACHED, test_changes_of_reads.CHANGED):
        assert len(set(table.values())) == len(table)
    texts = test_edits_without_effect.texts()
    assert len({test_edits_without_effect.PROGRAM, *texts.values()}) == len(texts) + 1
