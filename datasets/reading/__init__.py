"""Parts that readers of official layouts share: drawn holdouts, MATLAB files, WordNet names, array sets."""
