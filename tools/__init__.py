"""Developer commands: benchmarks and generated tables. They import mtnas; mtnas never imports them."""
