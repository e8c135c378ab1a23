"""The questions as data: who asks what where, the command that answers, how to read it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A public question.

    source: repository and number of the thread. text: the question. command: what answers it, run beside the
    files of ``_scene``. reading: one sentence on the answer. answer: a pattern that the output must hold.
    """

    source: str
    text: str
    command: str
    reading: str
    answer: str

    @property
    def address(self) -> str:
        """The thread's page."""
        repository, _, number = self.source.partition("#")
        return f"https://github.com/{repository}/issues/{number}"


PREDICT = "python -m sim.predict {} --base BASE --prompts prompts.jsonl --lams {} --out runs/{}"
DIAGNOSED = r"^(Merge them by|Do not merge them|Not sure: )"
SEARCHED = r"^Recommendation: [^\n]* measured[\s\S]*\nCertain: all 9 merges were run"
ANOTHER = r"Not exact: .*\nupdate: another one \("

QUESTIONS = (
    Question(
        "huggingface/peft#3761",
        "Is this merge right for rsLoRA, biases and DoRA?",
        "python -m sim.merge RSLORA --check RSLORA_BY_PEFT",
        "A merge of one adapter at weight 1 is that adapter; that of PEFT still says `use_rslora` and is "
        "too large by the square root of the rank. Biases, DoRA magnitudes and saved modules have lines too.",
        r"Not exact: (\d+) of \1 tensors .*\nupdate: 2 times what it should be, the square root of the rank",
    ),
    Question(
        "huggingface/peft#2796",
        "Can an adapter be subtracted from another one?",
        "python -m sim.merge A B --method sum --weight 1 -1 --out difference",
        "Weights act on each update, so that -1 subtracts exactly, and nothing is cut off.",
        r"difference: sum of 2 adapters, \d+ modules, rank 8, float32; the rank cut off 0% of",
    ),
    Question(
        "huggingface/peft#3004",
        "Is PEFT's `linear` with a negative weight the difference?",
        "python -m sim.merge A B --weight 1 -1 --check DIFFERENCE_BY_PEFT",
        "`linear` mixes factors, so that products of one adapter's B and the other's A come in: another "
        "update, off by the share of the difference in the column `error`.",
        ANOTHER,
    ),
    Question(
        "huggingface/peft#2368",
        "Why does the model collapse after merging the adapter into the base?",
        "python -m sim.merge A --check A_TWICE --base BASE",
        "Of many causes this one: the adapter was folded in twice. A dropped head, a wrong scale and a base "
        "that was changed besides are named as well.",
        r"Not exact: .*\nupdate: 2 times what it should be",
    ),
    Question(
        "unslothai/unsloth#3454",
        "Was `modules_to_save` dropped by the merge?",
        "python -m sim.merge HEAD --check HEAD_FOLDED --base BASE",
        "The trained output head is not in the merged model, which ties it to the embedding again.",
        r"Not exact: 1 of .*\nwhole tensor: dropped \(lm_head\.weight; off by up to 100% of the change\)",
    ),
    Question(
        "unslothai/unsloth#3091",
        "Is the merge in bfloat16 still the adapter?",
        "python -m sim.merge A --check A_FOLDED --base BASE",
        "It is, to the rounding of bfloat16; the second line says how much of the update the rounding loses.",
        r"Exact: A_FOLDED is A folded into BASE, to the rounding of bfloat16\.\n"
        r"Rounding to bfloat16 by itself loses [\d.]+% of",
    ),
    Question(
        "axolotl-ai-cloud/axolotl#3497",
        "Is knowledge lost when the adapter is merged into the base?",
        PREDICT.format("A", "0.5 1", "folded"),
        "The third line has the accuracy of the base with the adapter folded in, beside that of the adapter "
        "in the first, and counts the answers that turn.",
        r"Folded into the base in bfloat16: A [\d.]+ .* answers turn right or wrong by it",
    ),
    Question(
        "axolotl-ai-cloud/axolotl#3626",
        "Which rank do I need?",
        "python -m sim.plan --facts 200 --adapters 2 --lam 0.75",
        "The rank for so many facts, what would do with less, and how far the law is off where it was "
        "measured.",
        r"overwrite, 2 adapters at lambda 0\.75 +200 facts +lambda 0\.75 +rank \d+ \[\d+, \d+\]",
    ),
    Question(
        "vllm-project/vllm#51940",
        "Several adapters for a request, or one merge?",
        "python -m sim.diagnose HOME EMBLEM --out runs/real",
        "Several at once are the sum of their updates, which a merge is too; the first line says whether one "
        "strength suits both, or each prompt should have its own adapter.",
        DIAGNOSED,
    ),
    Question(
        "longtermrisk/openweights#57",
        "Is PEFT's `linear` a valid way to merge?",
        "python -m sim.merge A B --weight 0.5 0.5 --check LINEAR_BY_PEFT",
        "It is not the average of the updates: it averages factors, whose products have cross terms.",
        ANOTHER,
    ),
    Question(
        "huggingface/transformers#42113",
        "Can several adapters be merged with a validation of the result?",
        PREDICT.format("A B", "0.5 1", "pair") + " --protect untouched:0.9",
        "The strengths of the best merge are searched on prompts of one's own; what is recommended was "
        "measured, and `--protect` bounds what the base may lose.",
        SEARCHED,
    ),
    Question(
        "oneal2000/PRAG#6",
        "`linear` or `cat`: which one adds the adapters up?",
        "python -m sim.merge A B --method sum --check CAT_BY_PEFT",
        "`cat` does, exactly: its rank is the sum of the ranks.",
        r"Exact: CAT_BY_PEFT is the sum of A, B\.",
    ),
    Question(
        "predibase/lorax#776",
        "Does what a merge did on one base hold on another one?",
        "python -m sim.predict A_OTHER B_OTHER --base OTHER_BASE --prompts other.jsonl --lams 0.5 1 "
        "--out runs/other --protect untouched:0.9",
        "The same facts taught to another base of the same shape: compare recommendation and table with "
        "those of the first base, above. Measure on the base that you use.",
        SEARCHED,
    ),
    Question(
        "kohya-ss/musubi-tuner#193",
        "Can effects be trained apart and combined in one LoRA?",
        "python -m sim.diagnose smoke.safetensors glass.safetensors --out runs/effects",
        "Files of kohya's tools are read as they are; the verdict says at which strength both survive.",
        DIAGNOSED,
    ),
    Question(
        "unslothai/unsloth#2502",
        "What does my adapter do to the base's own abilities?",
        PREDICT.format("A", "0.25 0.5 0.75 1", "abilities") + " --protect untouched:0.5",
        "The second line counts what the base answers and the adapter loses; the recommended strength keeps "
        "half of the base's other answers.",
        r"The base's own abilities: .*of 12 prompts of untouched that the base answers \d+ are lost",
    ),
)
