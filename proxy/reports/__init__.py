"""Reports: pure functions over the store's sums and standings, and the one renderer that shows them to people.

spending    day sums → rows by model, owner, day, fine-tuned or base, with a total
budget_use  a budget's standing in its current period
amounts     dollars, ratios and times as people read them
sheet       what is to be shown: columns, rows, a total, notes
render      a sheet on a terminal or in a pipe (the only module that imports rich)
"""
