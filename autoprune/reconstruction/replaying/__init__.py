"""Parts of a pass run alone, on what was kept from the part before, and fitted to the dense network's."""
