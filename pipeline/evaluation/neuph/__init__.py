"""What NeuPh reaches on specimens and by a forward model that its training shares nothing with."""
