"""A generation stack: model microservice, gen-worker, miner and validator; the programs lie beside it."""
