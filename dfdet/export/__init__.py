"""Face crops for people with other code: a tree of PNG files, DeepfakeBench's tree and JSON, or videos of crops."""

from dfdet.export.exporting import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
