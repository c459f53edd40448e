"""Ways of composing and routing LoRA experts, behind one interface. Importing this package does not import torch."""
