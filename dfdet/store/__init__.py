"""An exact, memory-mapped store of face crops: clips that were decoded once are read again without decoding.

A folder of shards. Each belongs to one writing process, is written under another name, flushed and renamed, and exists
only from the moment at which its index does; nobody appends to a shared file, so there are no locks and any number of
workers, ranks and jobs may fill one store, on a network disk too.
"""

from dfdet.store.reading import CropStore, Place, StoredClip
from dfdet.store.spec import StoreSpec
from dfdet.store.writing import StoreWriter

__all__ = ["CropStore", "Place", "StoreSpec", "StoreWriter", "StoredClip"]
