"""The corpus that the program makes by itself: a seed in; short videos of rendered heads, real and forged, out.

No photograph, no person's likeness, no download. The entry is :func:`dfdet.demo.corpus.make`.
"""
