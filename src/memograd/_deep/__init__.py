"""Recursion without end: a memoized function may call itself 100,000 levels deep under any recursion limit.

Python gives a thread a fixed number of frames (1,000 by default). A memoized recursion needs no more: when few frames
are left, a call whose result is missing is not begun there. It *leaves*: an internal exception unwinds the stack down
to a *landing* and names the missing call; the landing computes it from an emptier stack, and then begins again the call
whose stack was unwound. What was computed is remembered, so the second time the way down is short. (The idea is that
of restarts in build systems, Mokhov et al., *Build systems à la carte*, 2018, and of iterative deepening.)

NOTE [deep] The rules:

1. A call becomes the landing when a quarter of the frames is used, at most 250 of them; calls leave when, from there,
   half of the rest is used, at most 400 frames. So there are always frames left for what is not memoized: helper
   functions between the levels, numpy, torch, logging. Recursions that stay above the landing are never begun again.
2. What was computed under an outermost call in progress is found again until it ends, even where the store has no
   room for it (`known`): progress never depends on the store.
3. The exception is a `BaseException`, so `except Exception` does not see it; `finally` and `with` run as they do for
   any. If the user's code swallows it (`except BaseException`, a bare `except`), the function that did so gives a
   result it would not have given: that is noticed when it returns, the result is dropped, and leaving goes on. Asked
   for more meanwhile, memoized functions raise it again. (Code that tries again for ever, whatever it catches, never
   ends, as it would not when out of frames.)
4. An exception that a call raises at the landing is raised again where that call was asked for: the user's handlers
   between see it as if the stack had never been unwound. It is not remembered beyond the outermost call.
   `KeyboardInterrupt` alone passes the landing at once: nothing is begun again for somebody who wants the end.
5. A `RecursionError` from too few frames (much that is not memoized between two levels) makes its call leave, too.
6. Random streams (`random`, `numpy.random`, `torch`) are set back: a call that is begun again begins with the streams
   that it began with, and goes on with those that the call computed meanwhile left behind, so a chain of calls draws
   what it would have drawn. But a remembered call draws nothing, here as anywhere: a body that begins again past calls
   which drew themselves may draw other numbers. Other threads that draw from these streams meanwhile see them move.
7. A call that left is computed in the surroundings of the place where it was asked for: context variables (those of
   decimal and numpy, too), torch's grad mode, inference mode, autocast, default dtype. What it sets there ends with it.
8. A call that needs itself raises `RecursionError`, and so does a recursion without end after about 2,500,000 levels.

What it costs: a body may be begun more than once, and then its effects (printing, counting) happen more than once. If
`n` calls are computed and `d` of them leave, bodies are begun at most `n + k d` times, where `k` is how many
levels fit between the landing and the place to leave (about 130 under the default limit); `d` is at most `n`, and
about `n / k` for a chain: fibonacci(100_000) begins 2 bodies for each number, an edit distance not many more.
"""
