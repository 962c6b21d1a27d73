"""Fine-tuning: taggers and classifiers, over several seeds."""
