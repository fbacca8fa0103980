"""A real `lexlip serve` under load: for half an hour beside a writer, and in figures."""
