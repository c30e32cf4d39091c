"""How many tokens a batch should hold on this machine: measured, kept, shown, and measured again where in doubt."""
