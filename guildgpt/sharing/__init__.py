"""What leaves the house: adapters for peft, files for Ollama, models on the Hugging Face Hub."""
