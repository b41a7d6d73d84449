"""An audit of labelled faces: copies, contradictions, leaks between splits, no faces, and doubtful labels.

`pool` gathers the images, `copies`, `pictures`, `votes` and `label_errors` find, `output` and `page` write.
"""
