"""Frames in, face tracks out: detectors behind one interface, association over frames, smoothing.

Every detector maps its raw box to the common one (:mod:`dfdet.faces.boxes`); crops are made elsewhere
(:mod:`dfdet.data`), since the crop rule is a property of a clip and not of a track.
"""
