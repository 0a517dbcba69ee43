"""InstaManip: a language model learns an edit from instruction and exemplars, and foretells the wanted image."""
