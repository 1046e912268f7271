"""Fine-tuning on a folder of one's own: recognise its layout, choose, write a short config, check, train, test."""
