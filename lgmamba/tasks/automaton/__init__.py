"""State tracking: symbols move a finite automaton; told after every one is where it stands."""
