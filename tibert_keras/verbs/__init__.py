"""What the verbs of the command line do: a function of one dataclass each, which gives the flags and the help."""
