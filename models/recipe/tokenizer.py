"""Byte-level BPE, trained on the training documents only."""
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]
BOS_ID, EOS_ID, PAD_ID = 0, 1, 2
# Contractions; words with at most one leading non-letter; 1 to 3 digits; punctuation; white space.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
           r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def sample(documents, rng, limit=45_000_000):
    """Whole documents in random order; those rich in capitals and quotes come in twice."""
    picked, size = [], 0
    for document in rng.sample(documents, len(documents)):
        head = document[:4000]
        rich = sum(c.isupper() or c in "\"'‘’“”()[]:/" for c in head) / max(len(head), 1) > 0.07
        picked += [document] * (2 if rich else 1)
        size += len(document) * (2 if rich else 1)
        if size > limit:
            break
    return picked


def train(documents, vocab_size, out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sample(documents, random.Random(1)), trainer)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({
        "add_bos_token": False, "add_eos_token": False, "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1], "pad_token": SPECIAL[2], "clean_up_tokenization_spaces": False,
        "model_max_length": 2048, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")
    return tokenizer


def load(folder):
    return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
