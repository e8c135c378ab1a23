"""What people ask in public about merging adapters: each question with one command that answers it."""

from sim.site.questions.data import QUESTIONS, Question

__all__ = ["QUESTIONS", "Question"]
