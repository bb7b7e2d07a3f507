"""Reports: functions over the store's sums, standings and ledger, and the one renderer that shows them to people.

spending    day sums → rows by model, owner, day, fine-tuned or base, with a total
budget_use  a budget's standing in its current period
ledger_lines, ledger_export, ledger_sheets, ledger_verdict  lines of the ledger, for people and for programs
ledger_reprice  what past traffic costs on other cards
amounts     dollars, ratios and times as people read them
sheet       what is to be shown: columns, rows, a total, notes
render      a sheet on a terminal or in a pipe (the only module that imports rich)
"""
