"""Words out of dense vectors: the code of a dual encoder, its lexicon, and the speaker of both."""
