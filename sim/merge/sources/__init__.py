"""Where adapters come from besides PEFT folders of LoRA: the Hugging Face hub, and other kinds of PEFT."""
