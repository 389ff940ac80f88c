"""What a study hands to others: weights with cards, and metadata of images and frames. Needs the extra `study`.

card        Markdown for people, one card for each run
croissant   JSON-LD for catalogues (MLCommons Croissant 1.0)
pack        all of it in one file
"""
