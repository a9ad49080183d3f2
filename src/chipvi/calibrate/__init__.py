"""What is learnt after training: factors of known tracks, and what to expect of experiments nobody ran."""
