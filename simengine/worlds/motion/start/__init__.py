"""How the bodies of a scene begin, where it is not undeformed and at rest."""
