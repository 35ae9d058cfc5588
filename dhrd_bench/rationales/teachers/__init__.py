"""Who writes rationales: anything that answers `Ask`s.

A teacher is named ``openai:MODEL`` (any OpenAI-compatible endpoint) or ``local:BACKBONE`` (a decoder
LM of the harness). `choose.make_teacher` builds either from its name and a `TeacherSettings`.
"""
