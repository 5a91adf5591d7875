"""Models that servers run: any that speaks OpenAI's API, and vLLM as a child of the worker.

What enters: an entry of the operator's registry file. What leaves: a decoder's slots or an encoder, which know nothing of the server's
troubles but that it may be away (EngineAway). `window` (how many requests at once) and `blame` (whose fault a failure is) are pure; `wire`
is the only file that speaks HTTP, on the loop of `line`, which owns the requests under way.
"""
